import { isDpsError } from '../../src/errors.js';

/** What is asked of an error's message. */
export type MessageRule = (message: string) => void;

/** The value of `parse`, or the code of the `DpsError` that it threw. Anything else that is thrown passes through. */
export function valueOrCode<T>(
  parse: () => T,
  rule: MessageRule = requirePrintable,
): { readonly value: T } | { readonly code: string } {
  try {
    return { value: parse() };
  } catch (error) {
    return { code: codeOf(error, rule) };
  }
}

export async function settledOrCode<T>(
  work: Promise<T>,
  rule: MessageRule = requirePrintable,
): Promise<{ readonly value: T } | { readonly code: string }> {
  try {
    return { value: await work };
  } catch (error) {
    return { code: codeOf(error, rule) };
  }
}

/** The code of a `DpsError` whose message is as it should be; anything else is thrown on. */
export function codeOf(error: unknown, rule: MessageRule = requirePrintable): string {
  if (!isDpsError(error)) throw error;
  rule(error.message);
  return error.code;
}

/** Whatever came from outside, a message stays one line of a length that a log takes, without a control character. */
export function requirePrintable(message: string): void {
  ensure(message.length > 0, 'the message is empty');
  ensure(message.length <= MAX_MESSAGE_CHARACTERS, `the message has ${message.length} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
  const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.exec(message);
  ensure(control === null, `the message has the character U+${control?.[0].charCodeAt(0).toString(16)} in it`);
}

const MAX_MESSAGE_CHARACTERS = 2_500;

/** Ends the case when something does not hold. */
export function ensure(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(`it does not hold: ${otherwise}`);
}
