"""The commands: each translates options into one config and one library call, and shows what comes out."""
