"""`auto`: the cheapest solver that gives the pictures back exactly, and what became of the rest."""

from dataclasses import dataclass

import pytest
import torch

from ddim_interp import GaussianDenoiser, Model, NoiseSchedule, Plan
from ddim_interp.checks import Certificate
from ddim_interp.choice import choose
from ddim_interp.denoiser import Prediction
from ddim_interp.errors import NonFiniteError
from ddim_interp.inversion import invert_images
from ddim_interp.solver import AUTO, SOLVERS

SCHEDULE = NoiseSchedule.from_config({})


@dataclass(frozen=True)
class Trial:
    certificates: tuple[Certificate, ...]
    nfe: int


def tried(levels, powers=None):
    """An attempt whose worst levels are given by solver, and its latents' |z|²/d; an exception is
    raised."""

    def attempt(plan):
        found, power = levels[plan.solver], (powers or {}).get(plan.solver, 1.0)
        if isinstance(found, Exception):
            raise found
        return Trial((Certificate(found / 1e3, found, power), Certificate(0.0, 0, 1.0)), 10)

    return attempt


def test_the_first_exact_one_is_taken_and_no_other_is_tried():
    choice = choose(Plan(), tried({AUTO[0]: 0}))
    assert choice.plan == Plan(solver=AUTO[0])
    assert choice.nfe == 10 and choice.passed_over == ()


def test_where_it_is_not_exact_the_next_is_tried_and_both_are_paid_for():
    choice = choose(Plan(), tried({AUTO[0]: 3, AUTO[1]: 0}))
    assert choice.plan.solver == AUTO[1]
    assert choice.nfe == 20
    assert choice.passed_over == (f"{AUTO[0]} was off by up to 3 of 255 levels",)


def test_where_none_is_exact_the_nearest_is_kept():
    choice = choose(Plan(), tried({AUTO[0]: 9, AUTO[1]: 2, AUTO[2]: 5}))
    assert choice.plan.solver == AUTO[1]
    assert len(choice.passed_over) == 2 and AUTO[1] not in " ".join(choice.passed_over)


def test_a_ripple_of_the_solvers_own_is_a_reason_to_try_the_next():
    choice = choose(Plan(), tried({AUTO[0]: 0, AUTO[1]: 0}, {AUTO[0]: 1.3}))
    assert choice.plan.solver == AUTO[1]
    assert choice.passed_over == (f"{AUTO[0]} made a latent too loud by itself (|z|²/d = 1.30)",)


def test_a_single_latent_is_as_loud_as_its_trajectory():
    choice = choose(Plan(), tried({AUTO[0]: 0, AUTO[1]: 0}, {AUTO[0]: 1.18, AUTO[1]: 1.06}))
    assert choice.plan.solver == AUTO[1] and choice.nfe == 20


def test_a_ripple_is_better_than_a_picture_that_does_not_come_back():
    choice = choose(Plan(), tried({AUTO[0]: 0, AUTO[1]: 2, AUTO[2]: 1}, {AUTO[0]: 1.3}))
    assert choice.plan.solver == AUTO[0] and choice.nfe == 30


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_a_picture_that_is_far_from_the_model_is_not_the_solvers_fault(power):
    choice = choose(Plan(), tried({AUTO[0]: 0}, {AUTO[0]: power}))
    assert choice.plan.solver == AUTO[0] and choice.nfe == 10


def test_nan_is_a_reason_to_try_the_next():
    choice = choose(Plan(), tried({AUTO[0]: NonFiniteError("NaN at step 3"), AUTO[1]: 0}))
    assert choice.plan.solver == AUTO[1]
    assert choice.passed_over == (f"{AUTO[0]} failed: NaN at step 3",)


def test_nan_everywhere_is_an_error():
    broken = {name: NonFiniteError(f"NaN by {name}") for name in AUTO}
    with pytest.raises(NonFiniteError, match=AUTO[0]):
        choose(Plan(), tried(broken))


def test_a_solver_that_was_named_has_no_alternative():
    choice = choose(Plan(solver="heun"), tried({"heun": 9}))
    assert choice.plan.solver == "heun" and choice.passed_over == ()


def test_all_that_auto_may_choose_is_exact():
    assert all(SOLVERS[name].exact for name in AUTO)


def test_pictures_come_back_exactly_whatever_the_number_of_steps():
    model = Model(GaussianDenoiser(variance=0.1), SCHEDULE, (3, 8, 8))
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for steps in (2, 5, 10, 100):
        found = invert_images(model, pictures, Plan(steps))
        assert found.plan.solver in AUTO
        assert all(each.roundtrip_max_level == 0 for each in found.certificates)
        assert all(each.roundtrip_mse <= 1e-6 for each in found.certificates)
    assert found.plan == Plan(steps, solver=AUTO[0]) and not found.passed_over


def test_a_denoiser_that_changes_its_mind_makes_auto_fall_back():
    """Algebra needs the same answer twice, and a network may not give it; iteration needs less."""

    @dataclass
    class Fickle:
        calls: int = 0

        def __call__(self, x_t, t):
            self.calls += 1
            exact = GaussianDenoiser(variance=0.1)(x_t, t)
            off = 0.05 if self.calls < 30 else 0.0  # wrong while the first solver goes up
            return Prediction(exact.x_0 - off * t.noise / t.signal, exact.eps + off)

    model = Model(Fickle(), SCHEDULE, (3, 8, 8))
    found = invert_images(model, torch.zeros(1, 3, 8, 8), Plan(29))
    assert found.plan.solver == AUTO[1]
    assert found.certificates[0].roundtrip_max_level == 0
    assert AUTO[0] in found.passed_over[0]
    assert found.nfe > sum(each.nfe for each in found.certificates)
