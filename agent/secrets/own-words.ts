import { readFileSync } from 'node:fs';
import type { IsOwnWord } from '../system/redactor.ts';

/** Characters; no sentence of the agent has a longer value by chance. */
const LONGEST_WORDS = 64;

/**
 * Returns the test for the agent's own words: letters that occur in the agent's program. Its sentences are made of them, so
 * such a value in a sentence does not show that it is also a secret. Without a program there are none.
 */
export function createOwnWords(program: string | undefined): IsOwnWord {
  let text: string | undefined;
  return value => {
    if (program === undefined || value.length > LONGEST_WORDS || !/^[A-Za-z][A-Za-z -]*$/.test(value)) return false;
    text ??= readFileSync(program, 'latin1');
    return text.includes(value);
  };
}
