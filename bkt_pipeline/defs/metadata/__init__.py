"""What the Dagster UI shows of a materialisation: columns, numbers, tables and pictures."""
