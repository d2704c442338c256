"""`python -m ddim_interp` is `ddim-interp`."""

from ddim_interp.cli import main

if __name__ == "__main__":
    main()
