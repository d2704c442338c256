"""What the user says once of a cache, or of kernels, is understood in the same words."""

from pathlib import Path

import pytest

from ddim_interp.user_cache import cache_off, is_off, user_cache_folder


@pytest.mark.parametrize("word", ["off", "OFF", "no", "0", ""])
def test_the_words_for_off_are_those_of_every_variable(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDIM_INTERP_ANYTHING", word)
    monkeypatch.setenv("DDIM_INTERP_CACHE", word)
    assert is_off("DDIM_INTERP_ANYTHING") and cache_off()


def test_what_is_not_set_or_says_something_else_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DDIM_INTERP_ANYTHING", raising=False)
    monkeypatch.setenv("DDIM_INTERP_CACHE", str(tmp_path))
    assert not is_off("DDIM_INTERP_ANYTHING") and not cache_off()
    assert user_cache_folder("latents") == tmp_path / "latents"
