import type { KeyRule } from './allow-list/key-rule.ts';
import { root } from './allow-list/root.ts';

/** A key of compose files, such as `services.NAME.ports[].published`, and what it needs. */
export interface KeyRow {
  key: string;
  needs: string;
}

/** Lists every key of the allow-list in the order of its table. */
export function listKeys(): KeyRow[] {
  return rowsOf(root, '');
}

function rowsOf(rule: KeyRule, at: string): KeyRow[] {
  const rows: KeyRow[] = [];
  for (const [key, one] of Object.entries(rule.keys ?? {})) {
    const path = at === '' ? key : `${at}.${key}`;
    rows.push({ key: path, needs: one.needs }, ...rowsOf(one, path));
  }
  if (rule.each) rows.push(...rowsOf(rule.each, `${at}${rule.isMap ? '.NAME' : '[]'}`));
  return rows;
}
