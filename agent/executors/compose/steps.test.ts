import { describe, expect, it } from 'vitest';
import type { ComposeConfig } from '../../plan/plan.ts';
import { listRegistries } from './steps.ts';

describe('the registries of a pull', () => {
  it('come from the images of the services that it is about', () => {
    const images = ['nginx', 'library/nginx:1', 'ghcr.io/a/b@sha256:1', 'localhost/x', 'r:5000/x'];
    const services = Object.fromEntries(images.map((image, index) => [`s${index}`, { image }]));
    const config = { name: 'web', services } as unknown as ComposeConfig;
    expect(listRegistries(config, [])).toEqual(['docker.io', 'ghcr.io', 'localhost', 'r:5000']);
    expect(listRegistries(config, ['s2'])).toEqual(['ghcr.io']);
  });
});
