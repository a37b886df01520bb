"""What a score is worth: metrics with intervals, figures. Given predictions and images, never the training code."""
