"""What each stage costs beside what a peer costs, measured on the user's machine. One small file a stage."""
