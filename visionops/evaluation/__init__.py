"""How good a bundle is: what the evaluation of every task does alike."""
