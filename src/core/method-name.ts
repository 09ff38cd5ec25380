/** A command and its component may have 512 characters each (DTDL); more is no name, and fits no topic in the end. */
const MAX_METHOD_NAME_CHARACTERS = 1_024;

/** What is wrong with the name of a direct method, for "the name of a direct method …, not …"; no hub calls such a one. */
export function methodNameProblem(name: string): string | undefined {
  if (name === '') return 'an empty one';
  if (name.length > MAX_METHOD_NAME_CHARACTERS) return `one of ${name.length} characters`;
  return /\p{C}/u.test(name) ? 'one with control characters' : undefined;
}
