/** Quotes a text as one word of a shell command that a message advises, whatever characters it contains. */
export function shellWord(text: string): string {
  return /^[\w/.:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
