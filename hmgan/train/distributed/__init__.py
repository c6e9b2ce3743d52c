"""Ranks: who this process is, how they meet, who watches them, what stops them."""
