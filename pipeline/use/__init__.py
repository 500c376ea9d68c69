"""Using a trained model: standalone models, predictions for pictures, exports."""
