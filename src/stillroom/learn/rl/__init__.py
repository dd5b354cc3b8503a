"""Reinforcement learning: plan, rollouts, rewards, advantages, masks, update, each a small part."""
