"""Engine of a volume prediction: threads, blending, writing and progress notes."""
