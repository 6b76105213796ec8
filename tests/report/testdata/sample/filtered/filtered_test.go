package filtered
