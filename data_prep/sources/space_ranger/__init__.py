"""Space Ranger's output folders, of all its versions."""
