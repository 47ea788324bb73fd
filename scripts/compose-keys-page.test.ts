import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { listKeys } from '../agent/compose/key-table.ts';
import { composeKeysPage } from './compose-keys-page.ts';

it('the page of keys is the one that the script generates from the allow-list', () => {
  const page = readFileSync('docs/compose-keys.md', 'utf8');
  expect(page, 'run "npm run compose-keys"').toBe(composeKeysPage());
  expect(composeKeysPage([...listKeys(), { key: 'services.NAME.engine', needs: 'never' }])).not.toBe(page);
});
