/**
 * The errors that Cotan throws, and the check for states that cannot happen.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Shapes, axes or sizes do not fit. */
export class ShapeError extends RangeError {
  /** Name of the error class. */
  override name = "ShapeError";
}

/** Element types do not fit; the message names the cast that would help. */
export class DTypeError extends TypeError {
  /** Name of the error class. */
  override name = "DTypeError";
}

/** A parameter tree has another structure than was expected, or a selector matches nothing. */
export class TreeError extends TypeError {
  /** Name of the error class. */
  override name = "TreeError";
}

/** A tensor is used after it was disposed of or donated. */
export class DisposedError extends ReferenceError {
  /** Name of the error class. */
  override name = "DisposedError";
}

/** A backend is missing, out of memory or lost. */
export class DeviceError extends Error {
  /** Name of the error class. */
  override name = "DeviceError";
}

/** A file is malformed, or is not what it should be. */
export class FormatError extends Error {
  /** Name of the error class. */
  override name = "FormatError";
}

/** Throws if a condition that the code itself must ensure does not hold. */
export function invariant(
  condition: unknown,
  message: string,
): asserts condition {
  if (!condition) throw new Error(`Cotan has a bug: ${message}`);
}
