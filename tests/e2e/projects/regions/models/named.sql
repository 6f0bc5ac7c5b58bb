select '{{ var("region", "nowhere") }}' as region
