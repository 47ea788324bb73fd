import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Redactor } from '../system/redactor.ts';
import { SecretCollection } from './config-secrets.ts';

/** A variable of the fixture. `secret`: its value or a part of it; undefined if it is public. */
interface FixtureVariable {
  stack: string;
  name: string;
  value: string;
  secret: string | undefined;
}

/** Reads homelab.txt, which explains its marks. */
function readFixture(): FixtureVariable[] {
  const found: FixtureVariable[] = [];
  let stack = '';
  for (const line of readFileSync('agent/secrets/homelab.txt', 'utf8').replaceAll('~', '').split('\n')) {
    stack = /^\[(.+)\]$/.exec(line)?.[1] ?? stack;
    const [, mark = '', part = '', name = '', value = ''] = /^([-+]|\/(\S+)) ([^=]+)=(.*)$/.exec(line) ?? [];
    if (name === '') continue;
    found.push({ stack, name, value, secret: mark === '-' ? undefined : mark === '+' ? value : part });
  }
  return found;
}

const variables = readFixture();
const stacks = [...Map.groupBy(variables, ({ stack }) => stack)];

/** Returns `NAME=value` as a program prints it, redacted with the secrets that are found in the stack's variables. */
function redactedBy(stack: string, all: FixtureVariable[]): (one: FixtureVariable) => string {
  const collection = new SecretCollection({ shown: [], hidden: [] });
  collection.addPublicName(stack);
  for (const { name, value } of all) collection.addVariable(name, value);
  const redactor = new Redactor();
  for (const secret of collection.secrets) redactor.add(secret);
  return ({ name, value }) => redactor.text(`${name}=${value}`);
}

describe('the secrets that are likely in homelabs', () => {
  it('are measured on enough variables of enough stacks', () => {
    expect(stacks.length).toBeGreaterThanOrEqual(20);
    expect(variables.length).toBeGreaterThanOrEqual(400);
    expect(variables.filter(({ secret }) => secret !== undefined).length).toBeGreaterThanOrEqual(120);
  });

  it('are all redacted', () => {
    const missed = stacks.flatMap(([stack, all]) => {
      const redact = redactedBy(stack, all);
      return all.filter(one => {
        const [, printed = ''] = /^[^=]*=(.*)$/s.exec(redact(one)) ?? [];
        return one.secret !== undefined && printed.includes(one.secret);
      });
    });
    expect(missed.map(({ stack, name, value }) => `${stack}: ${name}=${value}`)).toEqual([]);
  });

  it('leave at least 95 % of the public values as they are', () => {
    const open = variables.filter(({ secret }) => secret === undefined);
    const redacted = stacks.flatMap(([stack, all]) => {
      const redact = redactedBy(stack, all);
      return all.filter(one => one.secret === undefined && redact(one) !== `${one.name}=${one.value}`);
    });
    const names = redacted.map(one => `${one.stack}: ${one.name}=${one.value}`);
    expect(redacted.length / open.length, names.join('\n')).toBeLessThan(0.05);
  });
});
