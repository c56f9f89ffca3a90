"""Binance's own candles as its REST interface gave them, against which resampling is checked."""
