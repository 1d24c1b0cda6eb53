-- How good the dictionary is, and the same figures made again from the integer sums.
SELECT
    split,
    rows,
    fvu,
    l0,
    cosine,
    relative_reconstruction_bias AS bias,
    sum_error_sq * power(2, -square_log2) / (
        sum_x_sq * power(2, -square_log2)
        - list_sum(list_transform(sum_x, s -> power(s * power(2, -value_log2), 2))) / rows
    ) AS fvu_again,
    nnz / rows AS l0_again,
    sum_cosine * power(2, -30) / rows AS cosine_again,
    sum_x_hat_sq / sum_x_dot_x_hat AS bias_again
FROM quality
WHERE rows > 0
ORDER BY split;
