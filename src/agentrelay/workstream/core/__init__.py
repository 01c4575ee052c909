"""What a lane is and in what order things happen; standard library only."""
