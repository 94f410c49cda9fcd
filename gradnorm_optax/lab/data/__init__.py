"""From files and generators to examples in three parts."""
