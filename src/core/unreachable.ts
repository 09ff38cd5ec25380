/** For the `default` of a `switch` over every member of a union: the compiler finds the member that was forgotten. */
export function unreachable(value: never): never {
  throw new TypeError(`Unreachable: ${JSON.stringify(value)}`);
}
