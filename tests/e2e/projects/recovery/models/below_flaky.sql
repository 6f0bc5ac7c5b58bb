select * from {{ ref("flaky") }}
