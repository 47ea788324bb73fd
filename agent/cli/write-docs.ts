import { readFileSync, writeFileSync } from 'node:fs';
import { insertCommandTable } from './docs-table.ts';

const PAGE = 'docs/agent.md';
writeFileSync(PAGE, insertCommandTable(readFileSync(PAGE, 'utf8')));
