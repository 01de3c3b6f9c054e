"""What differs between tasks and needs no torch: encode (Record -> arrays) and decode (raw outputs -> Prediction)."""
