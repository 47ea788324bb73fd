/*
 * Sequences that control a terminal, as sources of regular expressions: `intro` is one of the two ways to write a control
 * character of the upper range (ESC and a letter, or one character).
 */

/** A color or a plain style of the text. Not conceal, and no background: these can hide text. */
const STYLE = '(?:0?[0-4]|2[2-4]|3[0-79]|9[0-7]|38;5;\\d{1,3}|38;2;\\d{1,3};\\d{1,3};\\d{1,3})';
export const COLOR_SEQUENCE = `\\x1b\\[(?:${STYLE}(?:;${STYLE})*)?m`;

/** Any complete sequence. `c1` returns the source of a character of the upper control range. A text in it ends with its line. */
export function terminalSequence(c1: (code: number) => string): string {
  const [csi, osc] = [c1(0x9b), c1(0x9d)];
  const others = [0x90, 0x98, 0x9e, 0x9f].map(c1).join('|');
  const end = `(?:\\x07|\\x1b\\\\|${c1(0x9c)})?`;
  return [
    `(?:\\x1b\\[|${csi})[0-?]*[ -/]*[@-~]`,
    `(?:\\x1b\\]|${osc})[^\\x07\\x1b\\r\\n]*${end}`,
    `(?:\\x1b[PX^_]|${others})[^\\x1b\\r\\n]*${end}`,
    '\\x1b[ -/]*[0-~]?',
  ].join('|');
}

const upper = (code: number) => `\\u${code.toString(16).padStart(4, '0')}`;

/** Characters that move the cursor, hide text, change its direction or take no space. Tab, newline and CR stay. */
const HIDDEN_CHARACTER =
  '[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u2028\\u2029]|\\p{Default_Ignorable_Code_Point}';
const MAY_BE_HIDDEN = new RegExp(HIDDEN_CHARACTER, 'u');
const COLOR_OR_HIDDEN = new RegExp(`(${COLOR_SEQUENCE})|${terminalSequence(upper)}|${HIDDEN_CHARACTER}`, 'gu');

/**
 * Returns the text without characters and terminal sequences that a reader would not see as text: control characters, bidi
 * overrides, zero-width characters, conceal. Colors stay.
 */
export function toPlainText(text: string): string {
  return MAY_BE_HIDDEN.test(text) ? text.replace(COLOR_OR_HIDDEN, (_, color?: string) => color ?? '') : text;
}
