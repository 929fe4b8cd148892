"""What every folder may use: errors, files, statistics, seeds, tables, figures, the machine, processes."""
