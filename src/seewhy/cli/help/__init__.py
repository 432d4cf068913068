"""Help of commands and completion in shells."""
