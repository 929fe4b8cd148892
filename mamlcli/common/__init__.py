"""Every folder uses these: errors, files, statistics, seeds, tables, figures, the machine, processes."""
