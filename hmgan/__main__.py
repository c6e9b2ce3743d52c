"""`python -m hmgan`, for launchers that start modules."""

from hmgan.cli.app import main

if __name__ == "__main__":
    main()
