"""What sigan is made of and brings along, read from pyproject.toml and from the packages that are installed."""
