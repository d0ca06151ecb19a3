// A share of 1 as a bar. Only for the eye: the number stands beside it.

export function Bar({ share }: { share: number }) {
  const percent = 100 * Math.min(Math.max(share, 0), 1);
  return (
    <span class="bar" aria-hidden="true">
      <i style={{ width: `${percent.toFixed(1)}%` }} />
    </span>
  );
}
