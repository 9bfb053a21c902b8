"""The proof: does adapting pay?"""
