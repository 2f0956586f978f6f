import { createColors } from 'picocolors';
import { describe, expect, it } from 'vitest';
import { Progress, type ProgressOptions } from '../src/ui/progress.js';
import { renderTable } from '../src/ui/table.js';

function recorder(isTTY: boolean, options: Partial<ProgressOptions> = {}, columns = 100) {
  let text = '';
  let time = 0;
  const output = { write: (part: string) => (text += part), isTTY, columns };
  const progress = new Progress(output, {
    label: 'eval',
    total: 100,
    colors: createColors(false),
    now: () => time,
    ...options,
  });
  return {
    progress,
    at: (ms: number) => (time = ms),
    take: () => {
      const taken = text;
      text = '';
      return taken;
    },
  };
}

describe('Progress on a terminal', () => {
  it('redraws one line with bar, share, amount, time and ETA', () => {
    const { progress, at, take } = recorder(true);
    at(10_000);
    progress.update(25, 'niah_single_1');
    expect(take()).toBe(
      'eval ██████░░░░░░░░░░░░░░░░░░  25 %  25/100  0:10, ETA 0:30  niah_single_1',
    );
    at(20_000);
    progress.update(50);
    expect(take()).toBe(
      '\r\u001b[2Keval ████████████░░░░░░░░░░░░  50 %  50/100  0:20, ETA 0:20  niah_single_1',
    );
    progress.close('done');
    expect(take()).toBe('\r\u001b[2Kdone\n');
  });

  it('does not redraw more often than a person sees', () => {
    const { progress, at, take } = recorder(true);
    progress.update(1);
    take();
    at(40);
    progress.update(2);
    expect(take()).toBe('');
  });

  it('never makes a line wider than the terminal', () => {
    for (const columns of [20, 60, 75, 100]) {
      const { progress, at, take } = recorder(true, {}, columns);
      at(10_000);
      progress.update(
        25,
        'a long description of what is being worked on at this very moment, in detail',
      );
      expect(take().length, `${columns} columns`).toBeLessThan(columns);
    }
  });

  it('does not count replayed work as speed', () => {
    const { progress, at } = recorder(true);
    progress.replayed(50);
    at(10_000);
    progress.update(60);
    expect(progress.remainingSeconds).toBe(40);
  });

  it('never goes back, and stays silent once closed', () => {
    const { progress, at, take } = recorder(true);
    at(1000);
    progress.update(60);
    progress.update(30);
    at(2000);
    take();
    progress.tick();
    expect(take()).toContain(' 60 %');
    progress.close();
    take();
    at(9000);
    progress.update(90);
    progress.close('again');
    expect(take()).toBe('');
  });
});

describe('Progress in a log', () => {
  it('prints plain lines now and then, without control characters', () => {
    const { progress, at, take } = recorder(false);
    progress.update(0, 'first');
    at(3000);
    progress.update(10, 'second');
    at(6000);
    progress.update(20, 'third');
    expect(take()).toBe('eval 0 %  0/100  0:00  first\neval 20 %  20/100  0:06, ETA 0:24  third\n');
  });

  it('says nothing about work shorter than the delay', () => {
    const { progress, at, take } = recorder(false, { delayMs: 300 });
    at(100);
    progress.update(50);
    expect(take()).toBe('');
    at(400);
    progress.update(80);
    expect(take()).toContain('80 %');
  });
});

describe('renderTable', () => {
  it('aligns columns by what is seen, colours left out', () => {
    const green = createColors(true).green;
    const text = renderTable(
      [{ title: 'name' }, { title: 'n', align: 'right' }],
      [['a', '1'], '-', [green('bbbbbb'), '12345']],
    );
    expect(text).toBe(
      `name        n\n------  -----\na           1\n------  -----\n${green('bbbbbb')}  12345\n`,
    );
  });
});
