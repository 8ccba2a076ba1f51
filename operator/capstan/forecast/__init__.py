"""What will come: a load's history in, the median, the band and the peak of the next epoch out.

calendar  where a moment stands in the pattern of a week
history   what is known of the past, slot by slot
template  the typical week that a history tells (once a day)
track     one stream's running state: at every slot that closes, forecasts are judged and made
ahead     the forecast of the next epoch, every cycle
walk      a history walked as if it were the present: to judge, and to know again after a restart
peak      the peak that the rates at hand tell of, where there is no template

Who calls it: `decide`. Must not know: where the history came from.
"""
