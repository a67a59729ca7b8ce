/**
 * The errors that Cotan throws, and the check for states that cannot happen.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Frames that a stack keeps: operations are made of operations, and what helps is the line that called the first. */
const FRAMES = 50;

/** Takes an error's stack again, as deep as that; engines other than V8 keep more than its ten frames anyway. */
export function withCaller<E extends Error>(
  error: E,
  above: unknown = withCaller,
): E {
  if (!Error.captureStackTrace) return error;
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = FRAMES;
  Error.captureStackTrace(error, above as () => void);
  Error.stackTraceLimit = stackTraceLimit;
  return error;
}

/** Shapes, axes or sizes do not fit. */
export class ShapeError extends RangeError {
  /** Name of the error class. */
  override name = "ShapeError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, ShapeError);
  }
}

/** Element types do not fit; the message names the cast that would help. */
export class DTypeError extends TypeError {
  /** Name of the error class. */
  override name = "DTypeError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, DTypeError);
  }
}

/** A parameter tree has another structure than was expected, or a selector matches nothing. */
export class TreeError extends TypeError {
  /** Name of the error class. */
  override name = "TreeError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, TreeError);
  }
}

/** A tensor is used after it was disposed of or donated. */
export class DisposedError extends ReferenceError {
  /** Name of the error class. */
  override name = "DisposedError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, DisposedError);
  }
}

/** A backend is missing, out of memory or lost. */
export class DeviceError extends Error {
  /** Name of the error class. */
  override name = "DeviceError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, DeviceError);
  }
}

/** A file is malformed, or is not what it should be. */
export class FormatError extends Error {
  /** Name of the error class. */
  override name = "FormatError";

  /** An error that says what was found and what was expected. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    withCaller(this, FormatError);
  }
}

/** Throws if a condition that the code itself must ensure does not hold. */
export function invariant(
  condition: unknown,
  message: string,
): asserts condition {
  if (!condition) throw new Error(`Cotan has a bug: ${message}`);
}
