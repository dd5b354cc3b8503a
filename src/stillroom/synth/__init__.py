"""Making traces: sampling with stop rules, verified as they come."""
