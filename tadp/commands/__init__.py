"""What the `tadp` command does, one module for each of its subcommands."""
