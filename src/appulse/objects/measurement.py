"""Numbers of one galaxy from an image and its mask, and how galaxies share the light of an overlap."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import correlate1d

from appulse.objects.ellipses import ellipses_of, level

# Pixels are divided this finely, and radii binned this finely, for the curve of growth.
SUBPIXELS = 5
RADIUS_STEP = 0.05
# log I = a - b rho^p: Gaussian, exponential and de-Vaucouleurs-like fall-off in elliptical radius rho.
PROFILE_POWERS = (2.0, 1.0, 0.5)
PROFILE_BINS = 12
# With fewer pixels of its own, or a smaller share of its mask, it is fitted on what neighbours leave.
MIN_OWN_PIXELS = 6
MIN_OWN_SHARE = 0.1
# How often profiles are fitted to their galaxies' shares: measured in docs/decisions/0016.
SHARING_ROUNDS = 3
# Shares need a positive floor (noise units); a profile never falls quite to zero.
PROFILE_FLOOR = 1e-3
# Neighbours that correlate less are independent as far as one measures, and noise longer than some pixels is
# none of drizzling's or resampling's.
LEAST_CORRELATION, MOST_CORRELATION = 0.03, 0.98
_COMPILE = {"cache": True, "nogil": True}


@dataclass(frozen=True)
class Measurement:
    """Numbers of one galaxy; NaN where one cannot be measured.

    Attributes
    ----------
    area : float, pixels
    flux : float, units of the image times pixels
        Sum of image times share inside the mask.
    half_light_radius : float, pixels
        Radius of the circle around the centroid that holds half of ``flux``; not corrected for the PSF.
    ellipticity : float
        1 - b/a from second moments weighted with flux.
    orientation : float, degrees
        From +x, counter-clockwise, in [0, 180).
    x_centroid, y_centroid : float, pixels
        0-based pixel centres of the array given.
    """

    area: float
    flux: float
    half_light_radius: float
    ellipticity: float
    orientation: float
    x_centroid: float
    y_centroid: float


def measure(image: np.ndarray, mask: np.ndarray, share: np.ndarray | None = None) -> Measurement:
    """Measure one galaxy.

    Parameters
    ----------
    image : (height, width) float array
        Any flux unit. Non-finite pixels hold no light, but count in the area.
    mask : (height, width) bool array
    share : (height, width) float array, optional
        The galaxy's share of each pixel's light, 0 to 1 (`light_shares`); all of it by default.

    Returns
    -------
    Measurement
        Negative pixels count in ``flux`` and ``half_light_radius``, and as 0 in centroid and moments. A
        galaxy thinner than a pixel gets the pixel's own variance 1/12 added, as in SExtractor.
        An empty mask has area 0 and NaN otherwise; a flux that is not positive has no half-light radius.
    """
    return Measurement(*measure_values(image, mask, share))


def measure_values(image: np.ndarray, mask: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
    """`measure` as a (7,) float64 array in the order of `Measurement`'s fields."""
    image = np.asarray(image, dtype=np.float64)
    mask = np.ascontiguousarray(mask, dtype=bool)
    if image.shape != mask.shape or image.ndim != 2:
        raise ValueError(f"image {image.shape} and mask {mask.shape} must be 2-D and of one shape.")
    light = image if share is None else image * share
    return measure_pixels(np.ascontiguousarray(light), mask)


@njit(**_COMPILE)
def measure_pixels(light: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`measure_values` for compiled code.

    Parameters
    ----------
    light : (height, width) float64 array
        Contiguous; the galaxy's light.
    mask : (height, width) bool array

    Returns
    -------
    (7,) float64 array
    """
    h, w = mask.shape
    result = np.full(7, np.nan)
    area = 0
    flux = 0.0
    weight = 0.0
    mx = my = sxx = sxy = syy = 0.0
    for i in range(h):
        for j in range(w):
            if mask[i, j]:
                area += 1
                value = light[i, j]
                if np.isfinite(value):
                    flux += value
                    if value > 0:
                        weight += value
                        mx += value * j
                        my += value * i
    result[0] = area
    if area == 0:
        return result
    result[1] = flux
    if weight <= 0:
        return result
    mx /= weight
    my /= weight
    result[5] = mx
    result[6] = my
    furthest = 0.0
    for i in range(h):
        for j in range(w):
            if mask[i, j]:
                dx = j - mx
                dy = i - my
                furthest = max(furthest, dx * dx + dy * dy)
                value = light[i, j]
                if value > 0 and np.isfinite(value):
                    sxx += value * dx * dx
                    sxy += value * dx * dy
                    syy += value * dy * dy
    result[3], result[4] = _shape(sxx / weight, sxy / weight, syy / weight)
    if flux > 0:
        result[2] = _half_light_radius(light, mask, mx, my, np.sqrt(furthest), flux)
    return result


@njit(**_COMPILE)
def _shape(sxx: float, sxy: float, syy: float) -> tuple[float, float]:
    """Ellipticity, and orientation in degrees, of second moments."""
    if sxx * syy - sxy * sxy < 1.0 / 144.0:
        sxx += 1.0 / 12.0
        syy += 1.0 / 12.0
    mean = 0.5 * (sxx + syy)
    half_difference = np.sqrt((0.5 * (sxx - syy)) ** 2 + sxy * sxy)
    ellipticity = 1.0 - np.sqrt(max(mean - half_difference, 0.0) / (mean + half_difference))
    orientation = np.rad2deg(0.5 * np.arctan2(2.0 * sxy, sxx - syy)) % 180.0
    return ellipticity, orientation if orientation < 180.0 else 0.0  # the rest of a tiny negative one is 180


@njit(**_COMPILE)
def _half_light_radius(
    light: np.ndarray, mask: np.ndarray, mx: float, my: float, furthest: float, flux: float
) -> float:
    """Radius that half of the flux lies within; each pixel's light is spread evenly over its surface."""
    bins = int((furthest + 1.0) / RADIUS_STEP) + 2
    growth = np.zeros(bins)
    part = 1.0 / (SUBPIXELS * SUBPIXELS)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if mask[i, j] and np.isfinite(light[i, j]):
                for a in range(SUBPIXELS):
                    dy = i - my + (a + 0.5) / SUBPIXELS - 0.5
                    for b in range(SUBPIXELS):
                        dx = j - mx + (b + 0.5) / SUBPIXELS - 0.5
                        growth[int(np.sqrt(dx * dx + dy * dy) / RADIUS_STEP)] += part * light[i, j]
    inside = 0.0
    for n in range(bins):
        if inside + growth[n] >= 0.5 * flux:
            return RADIUS_STEP * (n + (0.5 * flux - inside) / growth[n])
        inside += growth[n]
    return np.nan


def flux_noise(noise: np.ndarray, share: np.ndarray, correlation: float = 0.0, scatter: float = 1.0) -> float:
    """Standard deviation of a flux from the noise of its pixels.

    Parameters
    ----------
    noise : (height, width) float array
        Standard deviation of each pixel, in the flux's unit.
    share : (height, width) float array
        The galaxy's share of each pixel's light; 0 outside its mask.
    correlation : float
        Of neighbouring pixels' noise; that of pixels a distance d apart is taken as
        ``correlation ** (d**2)``, as of white noise that a Gaussian smoothed.
    scatter : float
        Measured scatter of the pixels over ``noise``. A map that is larger than the scatter may allow for the
        correlation already, as drizzled weights do: it is not counted twice.

    Returns
    -------
    float
    """
    weighted = np.where(share > 0, noise, 0.0).astype(np.float64) * share
    variance = np.sum(weighted**2)
    along = _autocorrelation(correlation)
    if len(along) > 1:
        around = correlate1d(correlate1d(weighted, along, 0, mode="constant"), along, 1, mode="constant")
        variance = max(variance, min(scatter, 1.0) ** 2 * np.sum(weighted * around))
    return float(np.sqrt(variance))


def aperture_factor(correlation: float, scatter: float = 1.0) -> float:
    """What `flux_noise` of a large aperture is, over that of independent pixels.

    Parameters
    ----------
    correlation, scatter : float
        As for `flux_noise`.

    Returns
    -------
    float
    """
    return max(1.0, min(scatter, 1.0) * float(_autocorrelation(correlation).sum()))


def _autocorrelation(correlation: float) -> np.ndarray:
    """Correlation of pixels along one axis, (2 r + 1,), as far as it tells."""
    if correlation < LEAST_CORRELATION:
        return np.ones(1)
    correlation = min(correlation, MOST_CORRELATION)
    reach = int(np.sqrt(np.log(1e-3) / np.log(correlation)))
    return correlation ** (np.arange(-reach, reach + 1, dtype=np.float64) ** 2)


def light_shares(image: np.ndarray, masks: np.ndarray, rounds: int = SHARING_ROUNDS) -> np.ndarray:
    """Share each pixel's light among the galaxies that claim it.

    A galaxy's light is modelled as a profile that falls with elliptical radius, fitted to the pixels that are
    its own alone; where profiles overlap, the light is shared in proportion to them. A galaxy without enough
    pixels of its own (nested in another) is fitted to what the others' profiles leave of its pixels. Then
    each profile is fitted again to the galaxy's share of all its pixels: what was drawn out into the overlap
    from the outskirts alone meets the light that is there.

    Parameters
    ----------
    image : (height, width) float array, units of the background noise
        Non-finite pixels are left out of the fits.
    masks : (n_galaxies, height, width) bool array
    rounds : int
        How often profiles are fitted to their shares.

    Returns
    -------
    (n_galaxies, height, width) float32 array
        0 outside a galaxy's mask, 1 where it is alone, and summing to 1 over galaxies wherever there is one.
    """
    masks = np.ascontiguousarray(masks, dtype=bool)
    image = np.asarray(image, dtype=np.float64)
    if masks.ndim != 3 or masks.shape[1:] != image.shape:
        raise ValueError(f"masks {masks.shape} must be (n_galaxies, height, width), image {image.shape}.")
    covered = masks.sum(axis=0)
    shares = masks.astype(np.float32)
    if len(masks) < 2 or covered.max() < 2:
        return shares
    union = covered > 0
    ys, xs = (axis.astype(np.float64) for axis in np.nonzero(union))
    members = np.ascontiguousarray(masks[:, union])
    ellipses = ellipses_of(members, ys, xs)
    profiles = _profiles(image[union], members, covered[union], ys, xs, ellipses, rounds)
    profiles *= members
    shares[:, union] = profiles / profiles.sum(axis=0)
    return shares


@njit(**_COMPILE)
def _profiles(
    light: np.ndarray,
    members: np.ndarray,
    covered: np.ndarray,
    ys: np.ndarray,
    xs: np.ndarray,
    ellipses: np.ndarray,
    rounds: int,
) -> np.ndarray:
    """Fitted surface brightness of each galaxy at each pixel, (n_galaxies, n_pixels), at least the floor."""
    k, n = members.shape
    radii = np.empty((k, n))
    for j in range(k):
        for i in range(n):
            radii[j, i] = np.sqrt(level(ellipses[j], xs[i], ys[i]))
    profiles = _first_profiles(light, members, covered, radii)
    own_light = np.zeros(n)
    for _ in range(rounds):
        total = np.zeros(n)
        for j in range(k):
            for i in range(n):
                if members[j, i]:
                    total[i] += profiles[j, i]
        shared = np.full((k, n), PROFILE_FLOOR)
        for j in range(k):
            use = np.zeros(n, dtype=np.bool_)
            for i in range(n):
                if members[j, i] and np.isfinite(light[i]):
                    use[i] = True
                    own_light[i] = light[i] * profiles[j, i] / total[i]
            _fit_profile(own_light, radii[j], use, shared[j])
        profiles = shared
    return profiles


@njit(**_COMPILE)
def _first_profiles(
    light: np.ndarray, members: np.ndarray, covered: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    """Profiles from the pixels that are a galaxy's own, or, where these are few, from what others leave.

    Several galaxies without pixels of their own divide equally what is left: no order of theirs has a say.
    """
    k, n = members.shape
    profiles = np.full((k, n), PROFILE_FLOOR)
    exposed = np.zeros(k, dtype=np.bool_)
    use = np.zeros(n, dtype=np.bool_)
    left = light.copy()
    hidden = np.zeros(n)
    for j in range(k):
        own = area = 0
        for i in range(n):
            use[i] = members[j, i] and covered[i] == 1 and np.isfinite(light[i])
            area += members[j, i]
            own += members[j, i] and covered[i] == 1
        exposed[j] = own >= MIN_OWN_PIXELS and own >= MIN_OWN_SHARE * area
        if exposed[j]:
            _fit_profile(light, radii[j], use, profiles[j])
        for i in range(n):
            if members[j, i] and exposed[j]:
                left[i] -= profiles[j, i]
            elif members[j, i]:
                hidden[i] += 1
    for i in range(n):
        left[i] /= max(hidden[i], 1)
    for j in range(k):
        if not exposed[j]:
            for i in range(n):
                use[i] = members[j, i] and np.isfinite(light[i])
            _fit_profile(left, radii[j], use, profiles[j])
    return profiles


@njit(**_COMPILE)
def _fit_profile(light: np.ndarray, radii: np.ndarray, use: np.ndarray, profile: np.ndarray) -> None:
    """Least squares of the logarithm of ring means against rho^p; the best p fills ``profile``."""
    count = np.zeros(PROFILE_BINS)
    total = np.zeros(PROFILE_BINS)
    mean_radius = np.zeros(PROFILE_BINS)
    for i in range(light.size):
        if use[i]:
            b = min(int(radii[i] * PROFILE_BINS / 1.2), PROFILE_BINS - 1)
            count[b] += 1
            total[b] += light[i]
            mean_radius[b] += radii[i]
    pixels = 0.0
    everything = 0.0
    for b in range(PROFILE_BINS):
        pixels += count[b]
        everything += total[b]
        if count[b] > 0:
            total[b] /= count[b]
            mean_radius[b] /= count[b]
    if pixels == 0:
        return
    flat = max(everything / pixels, PROFILE_FLOOR)
    best_error = np.inf
    best_a = np.log(flat)
    best_b = 0.0
    best_power = 1.0
    for power in PROFILE_POWERS:
        s = sx = sy = sxx = sxy = 0.0
        for b in range(PROFILE_BINS):
            if count[b] > 0 and total[b] > 0:
                # var(log mean) = 1 / (count mean^2) for unit pixel noise; 10 % for a model that is wrong
                weight = 1.0 / (1.0 / (count[b] * total[b] ** 2) + 0.01)
                x = mean_radius[b] ** power
                y = np.log(total[b])
                s += weight
                sx += weight * x
                sy += weight * y
                sxx += weight * x * x
                sxy += weight * x * y
        spread = s * sxx - sx * sx
        if s <= 0 or spread <= 1e-9 * s * s:
            continue
        slope = max(-(s * sxy - sx * sy) / spread, 0.0)
        height = (sy + slope * sx) / s
        error = 0.0
        for b in range(PROFILE_BINS):
            if count[b] > 0:
                error += count[b] * (total[b] - np.exp(height - slope * mean_radius[b] ** power)) ** 2
        if error < best_error:
            best_error, best_a, best_b, best_power = error, height, slope, power
    for i in range(light.size):
        exponent = best_a - best_b * radii[i] ** best_power
        profile[i] = max(np.exp(exponent), PROFILE_FLOOR)
