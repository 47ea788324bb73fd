/** Quotes a word for a shell, if it needs that: for readers of logs and of RESTORE.md. The agent itself uses no shell. */
export function quoteWord(word: string): string {
  return /^[\w@%+=:,./*-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
