"""What the controller and the monitors share. Imports nothing else of masakari."""
