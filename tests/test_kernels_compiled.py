"""What a compiler makes of the kernels for a GPU, which it needs none for: do they fit, and do they
move sixteen bytes at a time?"""

import pytest

triton = pytest.importorskip("triton", minversion="3.9")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ddim_interp.unet.kernels import moments, norm, order, sums  # noqa: E402

WIDE = {"LANES": 128}
KERNELS = {  # with their feature maps, their tables in float32, and their constants
    "sum": (moments._sum, {"x"}, {"table"}, WIDE | {"ROWS": 32, "AHEAD": 3}),
    "weigh": (
        norm._weigh,
        {"weight", "bias", "add", "scale", "shift"},
        {"moments", "more", "table"},
        {"LANES": 8, "PARTS": 256, "BESIDE": True, "ADDS": True, "SCALES": True},
    ),
    "apply": (norm._apply, {"x", "y"}, {"table"}, WIDE | {"ROWS": 32, "SILU": True}),
    "join": (
        sums._join,
        {"h", "x", "bias"},
        {"table"},
        WIDE | {"ROWS": 64, "ADDS": True, "LEARNS": True},
    ),
    "past": (
        sums._past,
        {"h", "x", "beside", "weight", "bias", "other"},
        {"table"},
        {"BESIDE": True, "LEARNS": True},
    ),
    "interleave": (order._interleave, {"parts", "y", "bias"}, set(), WIDE | {"ROWS": 32}),
    "split": (order._split, set(), {"x", "high", "low"}, {"TILE": 4096}),
}
TURING, AMPERE, HOPPER = (GPUTarget("cuda", capability, 32) for capability in (75, 86, 90))
# Bytes of shared memory that a program may have, and a precision.
GPUS = [
    (TURING, 65_536, "fp16"),
    (AMPERE, 101_376, "fp32"),
    (HOPPER, 232_448, "bf16"),
    (GPUTarget("hip", "gfx942", 64), 65_536, "fp32"),
]


def compiled(name, gpu, dtype, **constants):
    """A kernel, as it is when tensors begin, and channels come, in sixteens."""
    function, maps, tables, fixed = KERNELS[name]
    fixed, options = fixed | constants, {"enable_fp_fusion": True}
    if "STAGES" in fixed:
        options["num_stages"] = fixed.pop("STAGES")
    signature, sixteens = {}, {}
    for place, argument in enumerate(function.params):
        key = argument.name
        kind = f"*{dtype}" if key in maps else "*fp32" if key in tables else "i32"
        kind = "fp32" if key in ("eps", "factor") else kind
        signature[key] = "constexpr" if key in fixed else kind
        if key not in fixed and not argument.do_not_specialize and kind != "fp32":
            sixteens[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={(function.arg_names.index(key),): value for key, value in fixed.items()},
        attrs=sixteens,
    )
    return triton.compile(source, target=gpu, options=options)


def tiles(gpu, dtype):
    """Those of `_past`."""
    rows, lanes, stages = sums._LARGE if gpu == HOPPER and dtype != "fp32" else sums._SMALL
    depth = 32 if dtype == "fp32" else 64
    precision = "tf32x3" if dtype == "fp32" and gpu.backend == "cuda" else "ieee"
    return {"ROWS": rows, "LANES": lanes, "DEPTH": depth, "STAGES": stages, "PRECISION": precision}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("gpu", "room", "dtype"), GPUS, ids=lambda each: getattr(each, "arch", each)
)
def test_a_kernel_fits(name, gpu, room, dtype):
    more = tiles(gpu, dtype) if name == "past" else {}
    assert compiled(name, gpu, dtype, **more).metadata.shared <= room


@pytest.mark.parametrize("name", ["apply", "join", "past", "interleave", "split"])
def test_feature_maps_are_written_sixteen_bytes_at_a_time(name):
    more = tiles(HOPPER, "bf16") if name == "past" else {}
    ptx = compiled(name, HOPPER, "bf16", **more).asm["ptx"]
    stores = [line for line in ptx.splitlines() if "st.global" in line]
    assert any(".v4.b32" in store for store in stores)
    assert not any(".b16" in store for store in stores), "one value at a time"
