"""What every part of the lab stands on; nothing here knows what is trained."""
