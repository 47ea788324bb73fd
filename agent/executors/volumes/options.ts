import { Failure } from '../../plan/failure.ts';

/** rsync's options that an intent may name, one per entry. None of them runs a program, reads or writes elsewhere, or deletes. */
const ALLOWED = new Set([
  ...[
    '-a',
    '--archive',
    '-r',
    '--recursive',
    '-l',
    '--links',
    '-p',
    '--perms',
    '-t',
    '--times',
    '-g',
    '--group',
    '-o',
    '--owner',
  ],
  ...[
    '-H',
    '--hard-links',
    '-A',
    '--acls',
    '-X',
    '--xattrs',
    '-S',
    '--sparse',
    '-c',
    '--checksum',
    '-W',
    '--whole-file',
  ],
  ...[
    '-z',
    '--compress',
    '-x',
    '--one-file-system',
    '-O',
    '--omit-dir-times',
    '--numeric-ids',
    '--fsync',
    '--no-perms',
    '--partial',
  ],
]);
const NUMBERED = /^--(bwlimit|timeout|modify-window)=\d{1,9}$/;

/** Checks options of an intent. Throws Failure `option-not-allowed`. */
export function checkOptions(options: string[]): string[] {
  for (const option of options) {
    if (ALLOWED.has(option) || NUMBERED.test(option)) continue;
    throw new Failure(
      'option-not-allowed',
      `The rsync option ${JSON.stringify(option)} is not on the list.`,
      'Remove it, write each option as an entry of its own, or see the list in docs/backups.md.',
    );
  }
  return options;
}

/** Turns patterns into literal exclude rules: a pattern can't include, clear the list or read a file. Throws Failure `exclude-not-allowed`. */
export function excludeRules(patterns: string[]): string[] {
  return patterns.map(pattern => {
    if (![...pattern].some(char => char < ' ' || char === '\u007f')) return `--filter=- ${pattern}`;
    throw new Failure(
      'exclude-not-allowed',
      `The pattern ${JSON.stringify(pattern)} holds a control character.`,
      'Remove it.',
    );
  });
}
