"""What the search for the galaxies of an object goes by: every limit of `separation` and `proposals`.

Of a number without a source no record says what other values do.
"""

# Of one object; the search costs the more the more it looks for. Six were too few for giants (decision 15).
# Where it is reached, a flag says so.
MAX_GALAXIES = 12

# --- Which peaks of the light prove a galaxy ---
# A peak proves a galaxy of its own if its saddle is this deep, in units of the smoothed noise and of its
# height. The relative limit keeps spiral arms and photon noise, which grow with the height, out: none of
# 4916 isolated galaxies was taken for two (decision 12). Ellipses may still put two of several peaks into
# one galaxy.
PEAK_SIGNIFICANCE = 5.0
PEAK_DIP = 0.25
# One with this much of a saddle, in units of the smoothed noise, is a hint: worth a try, no proof.
PEAK_HINT_SIGNIFICANCE = 3.0
# Or if it stands out of the sharpened image, in units of its noise and of the light there: it is the core of
# a companion on the flank of a galaxy, where the light has no peak (decision 12 says what it finds).
CORE_SIGNIFICANCE = 8.0
CORE_CONTRAST = 0.1
# Peaks of the smoothed light this near to a core, pixels, are its own, or lie between two of them
# (decision 12).
CORE_SIZE = 4.0
# P_GALAXY has no noise of its own; dips below this are the network's ripples.
PROBABILITY_DIP = 0.1

# --- What a further galaxy must bring ---
# It must remove this share of the misfit, and this much of it per pixel of the object's outline (pixelisation
# alone leaves 0.01 to 0.03). Chosen on random ellipses with smooth and ragged outlines.
MIN_GAIN = 0.5
MIN_GAIN_PER_OUTLINE = 0.05
# Where there is an image and the galaxy has no peak of its own in it, a larger share.
PEAKLESS_GAIN = 0.65
# Without an overlap, two galaxies are claimed on stronger evidence only.
MIN_GAIN_TOUCHING = 0.6
MIN_GAIN_PER_OUTLINE_TOUCHING = 0.15
# Above this misfit per pixel of outline the search is thorough: it reconsiders, and looks one galaxy further.
# Half-pixel irregularities of the outline stay below.
GROSS_MISFIT = 0.15
# How often it leaves a galaxy out and adds one again; it stops where a round leaves more than this share of
# the misfit.
RECONSIDER = 2
WORTHWHILE_ROUND = 0.7
# Solutions whose misfits differ by less are taken for the same one (pixels squared).
SAME_MISFIT = 0.5

# --- What is tried, and how long ---
# Rounds of `refine` for every proposal, and for the `BEAM` best of them.
ROUNDS = 12
POLISH_ROUNDS = 60
BEAM = 3
# Larger sets come from peaks and class-2 regions, not from halves of what there is.
MAX_HALVED = 6
# Class-2 regions, largest first, each of which is tried as one galaxy more.
MAX_REGIONS = 3
# The same of regions that no ellipse covers as often as the map asks for.
MAX_UNCOVERED = 2
# Points, brightest first, that are tried as the galaxy in which all others lie: with one in place of three,
# nine galaxies fewer of 1671 are found in a crowded field (decision 15).
MAX_HOSTS = 3
# A class-2 region this near to a peak belongs to its galaxy, pixels.
NEAR_PEAK = 3.0
# Sine of the angle between two galaxies that cross, at the least.
LEAST_CROSSING = 0.5
# Ellipses of larger objects are fitted to every second, third, ... row and column.
MAX_FITTED_PIXELS = 8000

# --- What is said of the galaxies found ---
# A galaxy is nested if this share of it lies inside one other, larger one.
NESTED_SHARE = 0.9
