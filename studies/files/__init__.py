"""Studies written as YAML files: reading with line numbers, checks, objectives as formulas, and what they make."""
