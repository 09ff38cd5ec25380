/** A text as one word of a POSIX shell command that can be pasted. */
export function quoteForShell(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./~-]+$/.test(text) && !/^[-~]/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
