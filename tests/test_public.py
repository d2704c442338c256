"""What is public is what `__all__` says, and it is documented."""

import pytest

import ddim_interp


def test_all_is_sorted_and_complete():
    assert ddim_interp.__all__ == sorted(ddim_interp.__all__)
    assert set(ddim_interp._HOMES) == set(ddim_interp.__all__)
    assert set(dir(ddim_interp)) == {*ddim_interp.__all__, "__version__"}


@pytest.mark.parametrize("name", ddim_interp.__all__)
def test_every_public_name_exists_and_is_documented(name):
    public = getattr(ddim_interp, name)
    assert (public.__doc__ or "").strip()


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        _ = ddim_interp.walk
