//! A tensor as a picture: a matrix in shades of grey, colours where there are three channels, filters as tiles.
//!
//! Rows are read and written one by one, so that the picture may be larger than memory.

use std::io::{self, Write};

use crate::data::Elements;
use crate::data::gather::for_each_block;
use crate::data::number::ToF64;
use crate::dtype::{Class, DType, Known};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};

/// Pixels of a side, at most.
const MAX_SIDE: u64 = 65_535;
/// Pixels between tiles, before they are enlarged.
const BORDER: u64 = 1;

type Colour = [u8; 3];
const BORDER_COLOUR: Colour = [0, 0, 0];
/// What is no number is unlike any shade.
const NAN_COLOUR: Colour = [255, 0, 255];
/// ColorBrewer's RdBu: what is below zero, zero, what is above.
const DIVERGING: [Colour; 3] = [[33, 102, 172], [247, 247, 247], [178, 24, 43]];

/// How values become pixels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The values that are black and white; without them the smallest and the largest.
    pub range: Option<(f64, f64)>,
    /// Blue below the middle, red above; the middle is 0 unless `range` says otherwise.
    pub diverging: bool,
    /// Pixels of a value's side.
    pub scale: u64,
}

/// A tensor that can be drawn: its planes and how they are laid out.
#[derive(Debug)]
pub(crate) struct Picture {
    /// N x C x H x W.
    planes: Elements,
    dtype: Known,
    /// Three planes are one tile in colours.
    rgb: bool,
    tiles: u64,
    columns: u64,
    options: Options,
    /// Pixels.
    width: u32,
    height: u32,
}

impl Picture {
    /// Plans the picture of a tensor: H x W, C x H x W and H x W x C with one or three channels, N x C x H x W as tiles;
    /// channels that are neither one nor three become tiles in grey. `Unsupported` for other shapes, for complex numbers
    /// and for pictures that are too large.
    pub(crate) fn new(elements: &Elements, options: Options) -> Result<Self> {
        let refuse = |why: String| Err(Error::unsupported(why));
        let dtype = match (&elements.dtype, elements.dtype.class()) {
            (DType::Known(known), Some(class)) if class != Class::Complex => *known,
            (other, _) => {
                return refuse(format!("elements of type {other} have no shade; a picture needs real numbers"));
            }
        };
        let planes = planes(elements)?;
        let &[count, channels, high, wide] = planes.shape.as_slice() else {
            return refuse("no planes".to_owned());
        };
        let rgb = channels == 3 && !options.diverging;
        let tiles = if rgb { Some(count) } else { count.checked_mul(channels) };
        let tiles = tiles.filter(|tiles| *tiles > 0 && high > 0 && wide > 0);
        let Some(tiles) = tiles else { return refuse("there is nothing to draw in an empty tensor".to_owned()) };
        // the channels of each filter stand in a row of their own
        let columns = if !rgb && channels > 1 && count > 1 { channels } else { square(tiles) };
        let rows = tiles.div_ceil(columns);
        let side = |tiles: u64, pixels: u64| {
            let plain = tiles.checked_mul(pixels.checked_add(BORDER)?)?.checked_sub(BORDER)?;
            plain.checked_mul(options.scale).filter(|side| *side <= MAX_SIDE).and_then(|side| u32::try_from(side).ok())
        };
        let (Some(width), Some(height)) = (side(columns, wide), side(rows, high)) else {
            let message = format!("the picture would be larger than {MAX_SIDE} pixels");
            return Err(Error::unsupported(message).advise(take_part()));
        };
        Ok(Picture { planes, dtype, rgb, tiles, columns, options, width, height })
    }

    /// Draws it. Errors are those of reading and of `out`.
    pub(crate) fn write(&self, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
        let survey = self.survey(limits)?;
        let (low, high) = self.options.range.unwrap_or(match self.options.diverging {
            true => (-survey.magnitude(), survey.magnitude()),
            false => (survey.low, survey.high),
        });
        let shades = Shades { low, high, diverging: self.options.diverging };
        let grey = !self.rgb && !self.options.diverging && !survey.nan;
        let mut encoder = png::Encoder::new(out, self.width, self.height);
        encoder.set_color(if grey { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        let mut stream = writer.stream_writer().map_err(failed)?;
        self.draw(limits, &mut |row| {
            let mut bytes = Vec::with_capacity(row.len() * 3);
            for pixel in row {
                let colour = match pixel {
                    Pixel::Border => BORDER_COLOUR,
                    Pixel::Value(value) => shades.colour(*value),
                    Pixel::Channels(values) => values.map(|value| shades.level(value)),
                };
                for _ in 0..self.options.scale {
                    bytes.extend_from_slice(colour.get(..if grey { 1 } else { 3 }).unwrap_or_default());
                }
            }
            (0..self.options.scale).try_for_each(|_| stream.write_all(&bytes))
        })?;
        stream.finish().map_err(failed)?;
        writer.finish().map_err(failed)
    }

    /// The smallest and largest finite value, and whether there is a NaN.
    fn survey(&self, limits: &Limits) -> io::Result<Survey> {
        let mut survey = Survey { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: false };
        for_each_value(&self.planes, self.dtype, limits, &mut |values| {
            for value in values {
                survey.nan |= value.is_nan();
                if value.is_finite() {
                    survey.low = survey.low.min(*value);
                    survey.high = survey.high.max(*value);
                }
            }
            Ok(())
        })?;
        Ok(survey)
    }

    /// Hands over the rows of values, not enlarged yet, from top to bottom.
    fn draw(&self, limits: &Limits, row: &mut dyn FnMut(&[Pixel]) -> io::Result<()>) -> io::Result<()> {
        let &[_, channels, high, wide] = self.planes.shape.as_slice() else { return Ok(()) };
        if self.tiles == 1 && !self.rgb {
            return self.draw_plane(limits, row);
        }
        let border = vec![Pixel::Border; usize::try_from(self.columns * (wide + BORDER) - BORDER).unwrap_or_default()];
        for first in (0..self.tiles).step_by(usize::try_from(self.columns).unwrap_or(usize::MAX)) {
            if first > 0 {
                (0..BORDER).try_for_each(|_| row(&border))?;
            }
            for y in 0..high {
                let mut pixels = Vec::with_capacity(border.len());
                for tile in first..(first + self.columns).min(self.tiles) {
                    if tile > first {
                        pixels.extend((0..BORDER).map(|_| Pixel::Border));
                    }
                    if self.rgb {
                        let of = |channel| self.line(tile, channel, y, limits);
                        let (red, green, blue) = (of(0)?, of(1)?, of(2)?);
                        let lines = red.into_iter().zip(green).zip(blue);
                        pixels.extend(lines.map(|((red, green), blue)| Pixel::Channels([red, green, blue])));
                    } else {
                        let line = self.line(tile / channels, tile % channels, y, limits)?;
                        pixels.extend(line.into_iter().map(Pixel::Value));
                    }
                }
                pixels.resize(border.len(), Pixel::Border);
                row(&pixels)?;
            }
        }
        Ok(())
    }

    /// One plane alone is read as a stream, whatever its strides.
    fn draw_plane(&self, limits: &Limits, row: &mut dyn FnMut(&[Pixel]) -> io::Result<()>) -> io::Result<()> {
        let wide = self.planes.shape.last().and_then(|wide| usize::try_from(*wide).ok()).unwrap_or_default();
        let mut pixels = Vec::with_capacity(wide);
        for_each_value(&self.planes, self.dtype, limits, &mut |values| {
            for value in values {
                pixels.push(Pixel::Value(*value));
                if pixels.len() == wide {
                    row(&pixels)?;
                    pixels.clear();
                }
            }
            Ok(())
        })
    }

    fn line(&self, n: u64, channel: u64, y: u64, limits: &Limits) -> io::Result<Vec<f64>> {
        let line = self.planes.slice(0, n, 1, 1)?.slice(1, channel, 1, 1)?.slice(2, y, 1, 1)?;
        let mut out = Vec::new();
        for_each_value(&line, self.dtype, limits, &mut |values| {
            out.extend_from_slice(values);
            Ok(())
        })?;
        Ok(out)
    }
}

fn take_part() -> Message {
    Setting::Slice.then(" takes a part")
}

/// A tensor's dimensions as N x C x H x W; only strides change.
fn planes(elements: &Elements) -> Result<Elements> {
    let is_colour = |channels: u64| channels == 1 || channels == 3;
    let dims: Vec<(u64, u64)> = elements.shape.iter().copied().zip(elements.stride.iter().copied()).collect();
    let one = (1, 0);
    let dims = match *dims.as_slice() {
        [h, w] => [one, one, h, w],
        [c, h, w] if is_colour(c.0) => [one, c, h, w],
        [h, w, c] if is_colour(c.0) => [one, c, h, w],
        [n, h, w] => [n, one, h, w],
        [n, c, h, w] => [n, c, h, w],
        ref other => {
            let message = format!("a tensor of {} dimensions is no picture (2 to 4 are)", other.len());
            return Err(Error::unsupported(message).advise(take_part()));
        }
    };
    let (shape, stride) = dims.into_iter().unzip();
    Ok(Elements { shape, stride, ..elements.clone() })
}

/// The side of the smallest square that holds `tiles`.
fn square(tiles: u64) -> u64 {
    let root = tiles.isqrt();
    if root.saturating_mul(root) < tiles { root + 1 } else { root }
}

fn failed(e: png::EncodingError) -> io::Error {
    match e {
        png::EncodingError::IoError(e) => e,
        other => io::Error::other(other),
    }
}

fn for_each_value(
    elements: &Elements,
    dtype: Known,
    limits: &Limits,
    f: &mut dyn FnMut(&[f64]) -> io::Result<()>,
) -> io::Result<()> {
    const GO: usize = 4096;
    let convert = ToF64::new(dtype);
    let size = elements.validate(limits)?.element_size;
    let mut values = vec![0.0; GO];
    for_each_block(elements, limits, &mut |block| {
        for part in block.chunks(GO * size) {
            let values = values.split_at_mut(part.len() / size).0;
            convert.convert(part, values);
            f(values)?;
        }
        Ok(())
    })
}

struct Survey {
    low: f64,
    high: f64,
    nan: bool,
}

impl Survey {
    fn magnitude(&self) -> f64 {
        if self.low <= self.high { self.low.abs().max(self.high.abs()) } else { 0.0 }
    }
}

#[derive(Debug, Clone, Copy)]
enum Pixel {
    Border,
    Value(f64),
    Channels([f64; 3]),
}

struct Shades {
    low: f64,
    high: f64,
    diverging: bool,
}

impl Shades {
    /// 0 at the low end, 1 at the high one; the middle when all values are alike. `None` for NaN.
    fn place(&self, value: f64) -> Option<f64> {
        if value.is_nan() {
            return None;
        }
        // halves, because the difference of two finite numbers may be infinite
        let extent = self.high / 2.0 - self.low / 2.0;
        if extent > 0.0 { Some(((value / 2.0 - self.low / 2.0) / extent).clamp(0.0, 1.0)) } else { Some(0.5) }
    }

    /// One channel's brightness; NaN is dark.
    fn level(&self, value: f64) -> u8 {
        byte(self.place(value).unwrap_or(0.0) * 255.0)
    }

    fn colour(&self, value: f64) -> Colour {
        let Some(place) = self.place(value) else { return NAN_COLOUR };
        if !self.diverging {
            return [byte(place * 255.0); 3];
        }
        let [below, zero, above] = DIVERGING;
        let (end, far) = if place < 0.5 { (below, 1.0 - place * 2.0) } else { (above, place * 2.0 - 1.0) };
        let mut colour = zero;
        for (from, to) in colour.iter_mut().zip(end) {
            *from = byte(f64::from(*from) + (f64::from(to) - f64::from(*from)) * far);
        }
        colour
    }
}

/// The nearest byte.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn byte(level: f64) -> u8 {
    level.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::tensor;

    fn draw(shape: &[u64], values: &[f32], options: Options) -> (png::OutputInfo, Vec<u8>) {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let picture = Picture::new(&tensor(Known::Float32, shape, bytes), options).unwrap();
        let mut out = Vec::new();
        picture.write(&Limits::default(), &mut out).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(out)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        pixels.truncate(info.buffer_size());
        (info, pixels)
    }

    fn plain() -> Options {
        Options { scale: 1, ..Options::default() }
    }

    #[test]
    fn a_matrix_from_black_to_white() {
        let (info, pixels) = draw(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], plain());
        assert_eq!((info.width, info.height, info.color_type), (3, 2, png::ColorType::Grayscale));
        assert_eq!(pixels, [0, 51, 102, 153, 204, 255]);
        let ranged = Options { range: Some((1.0, 3.0)), ..plain() };
        assert_eq!(draw(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], ranged).1, [0, 0, 128, 255, 255, 255]);
        let (info, pixels) = draw(&[1, 2], &[0.0, 1.0], Options { scale: 2, ..plain() });
        assert_eq!((info.width, info.height, pixels), (4, 2, vec![0, 0, 255, 255, 0, 0, 255, 255]));
    }

    #[test]
    fn constants_and_what_is_no_number() {
        assert_eq!(draw(&[1, 2], &[7.0, 7.0], plain()).1, [128, 128]);
        let (info, pixels) = draw(&[1, 4], &[f32::NAN, f32::INFINITY, 0.0, 1.0], plain());
        assert_eq!(info.color_type, png::ColorType::Rgb);
        assert_eq!(pixels, [255, 0, 255, 255, 255, 255, 0, 0, 0, 255, 255, 255]);
        assert_eq!(draw(&[1, 2], &[f32::NAN, f32::NAN], plain()).1, [255, 0, 255, 255, 0, 255]);
        assert_eq!(draw(&[1, 2], &[f32::MIN, f32::MAX], plain()).1, [0, 255]);
    }

    #[test]
    fn diverging_colours_meet_at_zero() {
        let options = Options { diverging: true, ..plain() };
        let (_, pixels) = draw(&[1, 3], &[-2.0, 0.0, 1.0], options);
        assert_eq!(&pixels[..6], [33, 102, 172, 247, 247, 247]);
        assert_eq!(&pixels[6..], [213, 136, 145]);
    }

    #[test]
    fn channels_first_and_last() {
        let first: Vec<f32> = vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let (info, pixels) = draw(&[3, 1, 2], &first, plain());
        assert_eq!((info.width, info.height, info.color_type), (2, 1, png::ColorType::Rgb));
        assert_eq!(pixels, [0, 102, 204, 51, 153, 255]);
        let (info, pixels) = draw(&[2, 1, 3], &first, plain());
        assert_eq!((info.width, info.height), (1, 2));
        assert_eq!(pixels, [0, 51, 102, 153, 204, 255]);
    }

    #[test]
    fn filters_are_tiles_with_a_border() {
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let (info, pixels) = draw(&[4, 1, 2, 2], &values, plain());
        assert_eq!((info.width, info.height), (5, 5));
        assert_eq!(&pixels[..10], [0, 17, 0, 68, 85, 34, 51, 0, 102, 119]);
        assert_eq!(&pixels[10..15], [0; 5]);
        // two channels: a row for each filter
        let (info, _) = draw(&[4, 2, 1, 2], &values, plain());
        assert_eq!((info.width, info.height), (5, 7));
        // three tiles leave a place empty
        let (info, pixels) = draw(&[3, 1, 2, 2], &values[..12], plain());
        assert_eq!((info.width, info.height), (5, 5));
        assert_eq!(&pixels[22..], [0; 3]);
    }

    #[test]
    fn refusals() {
        let of = |dtype, shape: &[u64]| {
            let bytes = vec![0; 64 * usize::try_from(shape.iter().product::<u64>()).unwrap()];
            Picture::new(&tensor(dtype, shape, bytes), plain()).unwrap_err().to_string()
        };
        assert!(of(Known::Float32, &[1, 1, 1, 2, 2]).contains("5 dimensions"));
        assert!(of(Known::Float32, &[4]).contains("1 dimensions"));
        assert!(of(Known::Complex64, &[2, 2]).contains("complex64"));
        assert!(of(Known::Float32, &[0, 2]).contains("empty"));
        assert!(of(Known::Float32, &[1, 70_000]).contains("65535"));
    }
}
