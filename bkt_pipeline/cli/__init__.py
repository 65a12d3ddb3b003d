"""The command `bkt-pipeline`: one module for each subcommand, and the console they print to."""
